-- How often keys are used: on each day, by which verifier, from which network, with which program.

-- Refers to key_uses and not to keys: a change of a key locks its row in keys, and must not wait for counts that are written.
CREATE TABLE authsvc.key_usage (
    key_id        text COLLATE "C" NOT NULL REFERENCES authsvc.key_uses ON DELETE CASCADE,
    owner_id      text COLLATE "C" NOT NULL,
    day           date NOT NULL,                              -- in UTC
    verifier_id   text COLLATE "C" NOT NULL,                  -- who asked; 'authsvc' for a key that calls authsvc
    network       text COLLATE "C" NOT NULL,                  -- of the client, a /24 or /48; '' if not known; 'other': more than there is room for
    program       text COLLATE "C" NOT NULL,                  -- the first product of the user agent; '' if not known
    uses          bigint NOT NULL,
    last_use_time timestamptz NOT NULL,
    PRIMARY KEY (key_id, day, verifier_id, network, program)
) WITH (fillfactor = 70);
CREATE INDEX key_usage_by_owner ON authsvc.key_usage (owner_id, day);
CREATE INDEX key_usage_by_day ON authsvc.key_usage (day);

-- Adds counts to those of other workers. Uses of deleted keys are ignored, and a last use is never moved back.
CREATE FUNCTION authsvc.record_key_uses(
    key_ids text[], days date[], verifier_ids text[], networks text[], programs text[], counts bigint[], times timestamptz[],
    addresses text[],
    detailed_rows integer,                                    -- of a key and day; what comes after has the network 'other'
    other_rows    integer)                                    -- those with the network 'other'; the last one has the verifier 'other'
    RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
    AS $$
    BEGIN
        -- In the order of ids, so that two workers never wait for each other. Until the commit, nobody else counts rows of these
        -- keys, and none of them is deleted.
        PERFORM FROM authsvc.key_uses u WHERE u.key_id = ANY(key_ids) ORDER BY u.key_id FOR NO KEY UPDATE;
        UPDATE authsvc.key_uses k SET last_use_time = u.time, last_use_ip = u.address
          FROM (SELECT DISTINCT ON (n.key_id) n.key_id, n.time, n.address
                  FROM unnest(key_ids, times, addresses) WITH ORDINALITY AS n (key_id, time, address, number)
                 ORDER BY n.key_id, n.time DESC, n.number DESC) AS u
         WHERE k.key_id = u.key_id AND (k.last_use_time IS NULL OR k.last_use_time < u.time);
        INSERT INTO authsvc.key_usage AS known (key_id, owner_id, day, verifier_id, network, program, uses, last_use_time)
        WITH noted AS MATERIALIZED (
            SELECT n.key_id, k.owner_id, n.day, n.verifier_id, n.network, n.program, n.uses, n.time,
                   EXISTS (SELECT FROM authsvc.key_usage e
                            WHERE e.key_id = n.key_id AND e.day = n.day AND e.verifier_id = n.verifier_id
                              AND e.network = n.network AND e.program = n.program) AS is_known
              FROM unnest(key_ids, days, verifier_ids, networks, programs, counts, times)
                   AS n (key_id, day, verifier_id, network, program, uses, time)
              JOIN authsvc.key_uses k ON k.key_id = n.key_id),
        placed AS (
            SELECT n.key_id, n.owner_id, n.day, n.verifier_id, n.network, n.program, n.uses, n.time,
                   n.is_known OR n.network <> 'other' AND h.detailed + row_number() OVER (
                       PARTITION BY n.key_id, n.day, n.is_known, n.network = 'other' ORDER BY n.time) <= detailed_rows AS is_detailed,
                   h.verifiers @> ARRAY[n.verifier_id] OR cardinality(h.verifiers) + dense_rank() OVER (
                       PARTITION BY n.key_id, n.day ORDER BY n.verifier_id) < other_rows AS has_row
              FROM noted n,
                   LATERAL (SELECT count(*) FILTER (WHERE e.network <> 'other') AS detailed,
                                   coalesce(array_agg(e.verifier_id) FILTER (WHERE e.network = 'other'), '{}') AS verifiers
                              FROM authsvc.key_usage e
                             WHERE NOT n.is_known AND e.key_id = n.key_id AND e.day = n.day) AS h)
        SELECT p.key_id, p.owner_id, p.day,
               CASE WHEN p.is_detailed OR p.has_row THEN p.verifier_id ELSE 'other' END,
               CASE WHEN p.is_detailed THEN p.network ELSE 'other' END,
               CASE WHEN p.is_detailed THEN p.program ELSE 'other' END,
               sum(p.uses), max(p.time)
          FROM placed p GROUP BY 1, 2, 3, 4, 5, 6
            ON CONFLICT (key_id, day, verifier_id, network, program) DO UPDATE
               SET uses = known.uses + excluded.uses, last_use_time = greatest(known.last_use_time, excluded.last_use_time);
    END $$;

-- Old keys whose grace period ends by itself. It does not any more if the revocation of the key is another one than that of the
-- rotation, whose reason is 'rotated'.
CREATE TABLE authsvc.grace_ends (
    key_id           text COLLATE "C" PRIMARY KEY REFERENCES authsvc.keys ON DELETE CASCADE,
    rotate_time      timestamptz NOT NULL,
    when_unused_for  interval NOT NULL                        -- how long the old key has to be unused
);
INSERT INTO authsvc.jobs (job) VALUES ('grace_ends');
