-- What workers tell each other: the feed of changes, and who has to have applied them. docs/revocation.md says why.

-- The end of the feed. Its row lock makes the order of seq the order of commits, without gaps.
CREATE TABLE authsvc.feed_head (
    alone boolean PRIMARY KEY DEFAULT true CHECK (alone),
    seq   bigint NOT NULL,
    nonce uuid NOT NULL
) WITH (fillfactor = 10, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);

-- One entry for each change that verification has to know, however many credentials it is about.
CREATE TABLE authsvc.feed (
    seq          bigint PRIMARY KEY,
    nonce        uuid NOT NULL,                                -- tells this entry from one of another history with the same seq
    key_prefixes text[] NOT NULL DEFAULT '{}',                 -- what to forget: these,
    owner_id     text,                                         -- and all of this owner
    publish_time timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (autovacuum_vacuum_cost_delay = 0);

INSERT INTO authsvc.feed_head (seq, nonce) VALUES (0, gen_random_uuid());
INSERT INTO authsvc.feed (seq, nonce) SELECT seq, nonce FROM authsvc.feed_head;

-- One row for each worker process that may answer from memory.
CREATE TABLE authsvc.workers (
    worker_id     uuid PRIMARY KEY,
    lease_ms      integer NOT NULL CHECK (lease_ms > 0),       -- how long a renewal lets it answer
    beat          uuid NOT NULL DEFAULT gen_random_uuid(),     -- another one at each renewal, on whichever node
    applied       bigint NOT NULL DEFAULT -1,                  -- the seq up to which it has forgotten what changed
    host          text NOT NULL,
    pid           integer NOT NULL,
    register_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    beat_time     timestamptz                                  -- to look at; no decision uses it
) WITH (fillfactor = 20, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);
