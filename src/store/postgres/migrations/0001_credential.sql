-- One row per partner. Of a token there is nothing in clear: `record` is sealed under store.key.
CREATE TABLE bearerd_credential (
    partner         text PRIMARY KEY,
    revision        bigint NOT NULL,
    generation      bigint NOT NULL CHECK (generation >= 0),
    pair            bytea NOT NULL CHECK (octet_length(pair) = 32),
    parent          bytea CHECK (octet_length(parent) = 32),
    record          bytea NOT NULL CHECK (octet_length(record) > 0),
    obtained_at     timestamptz,
    expires_at      timestamptz,
    doubtful_since  timestamptz,
    intent_owner    bigint,
    intent_at       timestamptz,
    intent_deadline timestamptz,
    lease_owner     bigint,
    lease_until     timestamptz,
    changed_at      timestamptz NOT NULL,
    CONSTRAINT bearerd_credential_access
        CHECK ((obtained_at IS NULL) = (expires_at IS NULL)),
    CONSTRAINT bearerd_credential_intent
        CHECK (num_nonnulls(intent_owner, intent_at, intent_deadline) IN (0, 3)),
    CONSTRAINT bearerd_credential_lease
        CHECK ((lease_owner IS NULL) = (lease_until IS NULL))
);

CREATE INDEX bearerd_credential_changed_at ON bearerd_credential (changed_at);

COMMENT ON TABLE bearerd_credential IS 'bearerd: the credential that its replicas share, by partner';
COMMENT ON COLUMN bearerd_credential.partner IS 'the name of the [[partner]]';
COMMENT ON COLUMN bearerd_credential.revision IS 'counts the changes of this row';
COMMENT ON COLUMN bearerd_credential.generation IS 'how many access tokens there have been';
COMMENT ON COLUMN bearerd_credential.pair IS 'digest that names this generation''s pair of tokens';
COMMENT ON COLUMN bearerd_credential.parent IS 'digest of the pair from which this one was had; null for the first';
COMMENT ON COLUMN bearerd_credential.record IS 'the pair and what is known of it, sealed';
COMMENT ON COLUMN bearerd_credential.obtained_at IS 'when the call that brought the access token was sent, by this database''s clock';
COMMENT ON COLUMN bearerd_credential.expires_at IS 'when the access token expires';
COMMENT ON COLUMN bearerd_credential.doubtful_since IS 'when the refresh token was first presented in a call of unknown outcome';
COMMENT ON COLUMN bearerd_credential.intent_owner IS 'the process that is calling the partner, or died over it';
COMMENT ON COLUMN bearerd_credential.intent_at IS 'when it wrote that it would call';
COMMENT ON COLUMN bearerd_credential.intent_deadline IS 'when it will have given up, whatever happens';
COMMENT ON COLUMN bearerd_credential.lease_owner IS 'the process that refreshes next';
COMMENT ON COLUMN bearerd_credential.lease_until IS 'until when the others leave that to it';
COMMENT ON COLUMN bearerd_credential.changed_at IS 'when this row last changed';
