{{ changed_keys(source('raw', 'email__events'), 'occurred_at', columns=['message_id', 'ip_address', 'occurred_at']) }}
