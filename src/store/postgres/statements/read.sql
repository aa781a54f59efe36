SELECT revision, pair, record,
    (extract(epoch FROM obtained_at - clock_timestamp()) * 1000)::bigint,
    (extract(epoch FROM expires_at - clock_timestamp()) * 1000)::bigint,
    (extract(epoch FROM doubtful_since - clock_timestamp()) * 1000)::bigint,
    intent_owner,
    (extract(epoch FROM intent_at - clock_timestamp()) * 1000)::bigint,
    (extract(epoch FROM intent_deadline - clock_timestamp()) * 1000)::bigint,
    lease_owner,
    (extract(epoch FROM lease_until - clock_timestamp()) * 1000)::bigint
FROM bearerd_credential
WHERE partner = $1
