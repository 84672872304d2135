{{ points_of([ref('ftr_accounts__explicit'), ref('ftr_accounts__implicit')], card='shadow_scorecard') }}
