-- The condition is `may_write`. Another's intent and lease stay as long as the pair that they are
-- about does.
-- A revision must never come again, not even after a failover that has lost some: so it follows the clock.
WITH changed AS (
    UPDATE bearerd_credential SET
        revision = greatest(revision + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint),
        generation = $2, pair = $3, parent = $4, record = $5,
        obtained_at = statement_timestamp() + $6::bigint * interval '1 millisecond',
        expires_at = statement_timestamp() + $7::bigint * interval '1 millisecond',
        doubtful_since = statement_timestamp() + $8::bigint * interval '1 millisecond',
        intent_owner = CASE WHEN pair = $3 AND intent_owner <> $9 THEN intent_owner END,
        intent_at = CASE WHEN pair = $3 AND intent_owner <> $9 THEN intent_at END,
        intent_deadline = CASE WHEN pair = $3 AND intent_owner <> $9 THEN intent_deadline END,
        lease_owner = CASE
            WHEN pair = $3 AND lease_owner <> $9 THEN lease_owner
            WHEN $12::bigint > 0 THEN $9
        END,
        lease_until = CASE
            WHEN pair = $3 AND lease_owner <> $9 THEN lease_until
            WHEN $12::bigint > 0 THEN clock_timestamp() + $12::bigint * interval '1 millisecond'
        END,
        changed_at = clock_timestamp()
    WHERE partner = $1
        AND pair = ANY ($11::bytea[])
        AND (pair <> $3 OR revision = $10)
    RETURNING revision
), new AS (
    INSERT INTO bearerd_credential (
        partner, revision, generation, pair, parent, record, obtained_at, expires_at, doubtful_since,
        lease_owner, lease_until, changed_at
    )
    SELECT $1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, $2, $3, $4, $5,
        statement_timestamp() + $6::bigint * interval '1 millisecond',
        statement_timestamp() + $7::bigint * interval '1 millisecond',
        statement_timestamp() + $8::bigint * interval '1 millisecond',
        CASE WHEN $12::bigint > 0 THEN $9 END,
        CASE WHEN $12::bigint > 0 THEN clock_timestamp() + $12::bigint * interval '1 millisecond' END,
        clock_timestamp()
    WHERE NOT EXISTS (SELECT FROM bearerd_credential WHERE partner = $1)
    ON CONFLICT (partner) DO NOTHING
    RETURNING revision
), written AS (
    SELECT revision FROM changed UNION ALL SELECT revision FROM new
)
SELECT revision, pg_notify('bearerd_credential', $1 || ' ' || revision) FROM written
