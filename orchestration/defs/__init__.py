"""What exists: assets, checks, jobs and schedules, one package per station of the flow. How each works is in
`orchestration.lib`."""
