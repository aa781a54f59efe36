-- The condition is `may_claim`. Times of the record count from when the statement came in, because
-- that is when its sender measured them; whoever has waited for a row's lock looks at the clock anew.
-- A revision must never come again, not even after a failover that has lost some: so it follows the clock.
WITH changed AS (
    UPDATE bearerd_credential SET
        revision = greatest(revision + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint),
        generation = $2, pair = $3, parent = $4, record = $5,
        obtained_at = statement_timestamp() + $6::bigint * interval '1 millisecond',
        expires_at = statement_timestamp() + $7::bigint * interval '1 millisecond',
        doubtful_since = statement_timestamp() + $8::bigint * interval '1 millisecond',
        intent_owner = CASE WHEN $12::bigint IS NULL THEN NULL ELSE $9 END,
        intent_at = CASE WHEN $12::bigint IS NULL THEN NULL ELSE clock_timestamp() END,
        intent_deadline = clock_timestamp() + $12::bigint * interval '1 millisecond',
        lease_owner = $9,
        lease_until = clock_timestamp() + $13::bigint * interval '1 millisecond',
        changed_at = clock_timestamp()
    WHERE partner = $1
        AND pair = ANY ($11::bytea[])
        AND (pair <> $3 OR revision = $10)
        AND (intent_owner IS NULL OR intent_owner = $9
            OR ($14::boolean AND intent_deadline + interval '250 milliseconds' < clock_timestamp()))
        AND (lease_owner IS NULL OR lease_owner = $9 OR $15::boolean OR lease_until < clock_timestamp())
    RETURNING revision
), new AS (
    INSERT INTO bearerd_credential (
        partner, revision, generation, pair, parent, record, obtained_at, expires_at, doubtful_since,
        intent_owner, intent_at, intent_deadline, lease_owner, lease_until, changed_at
    )
    SELECT $1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, $2, $3, $4, $5,
        statement_timestamp() + $6::bigint * interval '1 millisecond',
        statement_timestamp() + $7::bigint * interval '1 millisecond',
        statement_timestamp() + $8::bigint * interval '1 millisecond',
        CASE WHEN $12::bigint IS NULL THEN NULL ELSE $9 END,
        CASE WHEN $12::bigint IS NULL THEN NULL ELSE clock_timestamp() END,
        clock_timestamp() + $12::bigint * interval '1 millisecond',
        $9, clock_timestamp() + $13::bigint * interval '1 millisecond', clock_timestamp()
    -- A row that is there is never inserted over, even if the update passed it by.
    WHERE NOT EXISTS (SELECT FROM bearerd_credential WHERE partner = $1)
    ON CONFLICT (partner) DO NOTHING
    RETURNING revision
), written AS (
    SELECT revision FROM changed UNION ALL SELECT revision FROM new
)
-- The others need not look now, but when the call must be over.
SELECT revision, CASE WHEN $12 IS NOT NULL THEN
    pg_notify('bearerd_credential', $1 || ' ' || revision || ' ' || $12 + 250)
END FROM written
