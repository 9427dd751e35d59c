-- Several tag keys: one that mints, older ones that are accepted, and perhaps a new one that workers are being taught.

ALTER TABLE authsvc.tag_keys
    ADD COLUMN mint_time   timestamptz DEFAULT now(),         -- since when key strings are minted under it; NULL: not yet
    ADD COLUMN rest_time   timestamptz,                       -- since when no worker does so any more
    ADD COLUMN retire_time timestamptz;                       -- since when no worker accepts it
UPDATE authsvc.tag_keys SET mint_time = create_time;

-- What a worker has to know: the one that mints first, then all others that it accepts.
CREATE VIEW authsvc.accepted_tag_keys AS
    SELECT array_agg(tag_key ORDER BY mint_time DESC NULLS LAST, tag_key_id) AS tag_keys
      FROM authsvc.tag_keys WHERE retire_time IS NULL;

-- An entry that has workers load them anew.
ALTER TABLE authsvc.feed ADD COLUMN about_tag_keys boolean NOT NULL DEFAULT false;
