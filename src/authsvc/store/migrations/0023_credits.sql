-- Credits: how many units a key may take in all, and how they are refilled.

-- One account for all keys that go back to one by rotation. It is changed often, and has no index on what changes, so that the changes
-- stay in its page.
CREATE TABLE authsvc.credit_accounts (
    account_id    text COLLATE "C" PRIMARY KEY,                    -- the budget_id of its keys
    remaining     bigint NOT NULL CHECK (remaining >= 0),          -- without what workers have borrowed
    spent         bigint NOT NULL DEFAULT 0 CHECK (spent >= 0),    -- since `remaining` was set; so much can be given back
    refill_amount bigint CHECK (refill_amount > 0),
    refill_day    integer CHECK (refill_day BETWEEN 1 AND 31),
    refill_time   timestamptz,                                     -- the next one
    epoch         bigint NOT NULL,                                 -- greater each time that `remaining` is set
    CHECK (num_nulls(refill_amount, refill_day, refill_time) IN (0, 3))
) WITH (fillfactor = 50);

-- The keys that have credits. Without a column of `keys`, releases before this one can go on.
CREATE TABLE authsvc.key_credits (
    key_id     text COLLATE "C" PRIMARY KEY REFERENCES authsvc.keys ON DELETE CASCADE,
    account_id text COLLATE "C" NOT NULL REFERENCES authsvc.credit_accounts,
    epoch      bigint NOT NULL                                     -- of the account, when the key got its credits
);
CREATE INDEX key_credits_account_id ON authsvc.key_credits (account_id);

-- So a refund that is repeated has no further effect.
CREATE TABLE authsvc.credit_refunds (
    account_id  text COLLATE "C" NOT NULL REFERENCES authsvc.credit_accounts ON DELETE CASCADE,
    refund_id   text COLLATE "C" NOT NULL,
    amount      bigint NOT NULL,
    refund_time timestamptz NOT NULL,
    PRIMARY KEY (account_id, refund_id)
);
CREATE INDEX credit_refunds_refund_time ON authsvc.credit_refunds (refund_time);

-- For those who may register workers.
DO $$
    DECLARE
        grantee regrole;
    BEGIN
        FOR grantee IN
            SELECT DISTINCT a.grantee FROM pg_class c, aclexplode(c.relacl) AS a
             WHERE c.oid = 'authsvc.workers'::regclass AND a.privilege_type = 'INSERT' AND a.grantee <> 0
        LOOP
            EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON authsvc.credit_accounts, authsvc.key_credits, '
                           'authsvc.credit_refunds TO %s', grantee);
        END LOOP;
    END $$;

-- The first 00:00 UTC of this day of a month that is later, or of the last day of a month that is shorter.
CREATE FUNCTION authsvc.next_refill(after timestamptz, day_of_month integer) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE STRICT
    SET search_path = pg_catalog, pg_temp
    RETURN (
        SELECT min(t.due)
          FROM generate_series(0, 1) AS n (months),
               LATERAL (SELECT date_trunc('month', after AT TIME ZONE 'UTC') + make_interval(months => n.months) AS begins) AS m,
               LATERAL (SELECT least(m.begins + make_interval(days => day_of_month - 1),
                                     m.begins + interval '1 month' - interval '1 day') AT TIME ZONE 'UTC' AS due) AS t
         WHERE t.due > after);

CREATE FUNCTION authsvc.next_credit_epoch(earlier bigint) RETURNS bigint
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$ SELECT greatest(earlier + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint) $$;

-- Refills those of some locked accounts for which that is due, by the clock of the database; returns how many. What was left is not
-- carried over.
CREATE FUNCTION authsvc.refill_credits(accounts text[]) RETURNS bigint
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
    WITH refilled AS (
        UPDATE authsvc.credit_accounts
           SET remaining = refill_amount, spent = 0, epoch = authsvc.next_credit_epoch(epoch),
               refill_time = authsvc.next_refill(authsvc.budget_time(), refill_day)
         WHERE account_id = ANY(accounts) AND refill_time <= authsvc.budget_time()
        RETURNING true)
    SELECT count(*) FROM refilled
    $$;

-- An account as it is shown: what remains, the amount and the day of refills, and the next one, in microseconds since 1970.
-- Not volatile, because PostgreSQL plans a view with a volatile column apart from the query that uses it.
CREATE FUNCTION authsvc.shown_credits(remaining bigint, refill_amount bigint, refill_day integer, refill_time timestamptz)
    RETURNS bigint[]
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
    SELECT ARRAY[CASE WHEN refill_time <= n.now THEN refill_amount ELSE remaining END, refill_amount, refill_day::bigint,
                 (extract(epoch FROM CASE WHEN refill_time <= n.now THEN authsvc.next_refill(n.now, refill_day)
                                          ELSE refill_time END) * 1000000)::bigint]
      FROM (SELECT authsvc.budget_time() AS now OFFSET 0) AS n
    $$;

-- Lends credits of accounts, which are given in the order of their ids, so that no two callers wait for each other. Refills them first if
-- that is due. `costs` are those of verifications, the smallest of each account first, and `places` says of which account. Lends what is
-- missing for as many of them as there is enough for. If that is all of them, a worker gets a hundredth of what remains in advance, and a
-- thousand at most, unless `exactly`. What was lent stays lent: the commit waits for the disk and the standby. It does not if nothing has
-- changed.
CREATE FUNCTION authsvc.borrow_credits(
    accounts text[], held bigint[], places integer[], costs bigint[], exactly boolean,
    OUT lent bigint[],
    OUT remaining bigint[],                     -- since; NULL for an account that is gone
    OUT epochs bigint[],
    OUT refill_amounts bigint[],
    OUT refill_seconds double precision[])      -- until the next refill
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
    #variable_conflict use_column
    DECLARE
        account record;
        size integer := cardinality(accounts);
        changed bigint;
        units bigint;
        wanted bigint;
        possible bigint;
    BEGIN
        PERFORM set_config('lock_timeout', '2000', true);
        lent := array_fill(0::bigint, ARRAY[size]);
        remaining := array_fill(NULL::bigint, ARRAY[size]);
        epochs := array_fill(0::bigint, ARRAY[size]);
        refill_amounts := array_fill(NULL::bigint, ARRAY[size]);
        refill_seconds := array_fill(NULL::double precision, ARRAY[size]);
        PERFORM FROM authsvc.credit_accounts a WHERE a.account_id = ANY(accounts) ORDER BY a.account_id FOR NO KEY UPDATE;
        changed := authsvc.refill_credits(accounts);
        FOR account IN
            SELECT u.place, u.account_id, u.held, a.remaining, a.epoch, a.refill_amount, a.refill_time
              FROM unnest(accounts, held) WITH ORDINALITY AS u (account_id, held, place)
              JOIN authsvc.credit_accounts a ON a.account_id = u.account_id
        LOOP
            SELECT coalesce(max(s.total), 0), coalesce(max(s.total) FILTER (WHERE s.total <= account.held + account.remaining), 0)
              INTO wanted, possible
              FROM (SELECT sum(u.cost) OVER (ORDER BY u.cost ROWS UNBOUNDED PRECEDING) AS total
                      FROM unnest(places, costs) AS u (place, cost) WHERE u.place = account.place) AS s;
            units := greatest(0, possible - account.held);
            IF units > 0 AND possible = wanted AND NOT exactly THEN
                units := greatest(units, least(1000, account.remaining / 100));
            END IF;
            IF units > 0 THEN
                UPDATE authsvc.credit_accounts a SET remaining = a.remaining - units, spent = a.spent + units
                 WHERE a.account_id = account.account_id;
                changed := changed + 1;
            END IF;
            lent[account.place] := units;
            remaining[account.place] := account.remaining - units;
            epochs[account.place] := account.epoch;
            refill_amounts[account.place] := account.refill_amount;
            refill_seconds[account.place] := extract(epoch FROM account.refill_time - authsvc.budget_time())::double precision;
        END LOOP;
        PERFORM set_config('synchronous_commit', CASE WHEN changed > 0 THEN 'on' ELSE 'off' END, true);
    END $$;

-- As before, with the new columns.
CREATE OR REPLACE VIEW authsvc.credentials AS
    SELECT 'key' AS kind, k.key_prefix, k.key_id AS credential_id, k.owner_id, k.scopes, k.annotations, k.expire_time,
           k.revoke_time, k.revoke_time <= k.update_time AS revoked_at_once, k.secret_hash, k.secret_origin,
           NULL::timestamptz AS last_activity_time, NULL::interval AS idle_timeout, p.keys_enabled,
           k.disable_time, k.disabled_until, k.allowed_networks, p.allowed_networks AS owner_networks,
           k.rate_limits, p.rate_limits AS owner_rate_limits, k.budget_id,
           c.account_id AS credit_account_id, c.epoch AS credit_epoch
      FROM authsvc.keys k
      LEFT JOIN authsvc.owner_policies p ON p.owner_id = k.owner_id
      LEFT JOIN authsvc.key_credits c ON c.key_id = k.key_id
    UNION ALL
    SELECT 'session', s.key_prefix, s.session_id, s.owner_id, s.scopes, s.annotations, s.latest_expire_time,
           coalesce(s.revoke_time, e.revoke_time),
           coalesce(s.revoke_time, e.revoke_time) IS NOT NULL, s.secret_hash, 'minted', s.last_activity_time, s.idle_timeout,
           NULL, NULL, NULL, '{}', NULL, '[]', NULL, '', NULL, NULL
      FROM authsvc.sessions s
      LEFT JOIN LATERAL (
          SELECT revoke_time FROM authsvc.session_ends
           WHERE owner_id = s.owner_id AND epoch > s.epoch ORDER BY epoch LIMIT 1) e ON true;

CREATE OR REPLACE VIEW authsvc.key_records AS
    SELECT k.key_id, k.owner_id, k.key_prefix, k.display_name, k.folded_name, k.description, k.scopes,
           k.technical_contacts, k.annotations, k.create_time, k.creator_id, k.update_time, k.expire_time, k.revoke_time,
           k.revoker_id, k.revoke_reason, k.rotated_from_key_id, k.rotated_to_key_id, k.version,
           u.last_use_time, u.last_use_ip,
           u.key_id AS use_key_id,                            -- for orders that the index of key_uses serves
           u.answer,
           k.disable_time, k.disabled_until, k.disabler_id, k.disable_reason, k.disabled_by_platform, k.allowed_networks,
           k.revoke_cause, k.revoked_with_key_id, k.rate_limits, k.budget_id,
           -- A subquery, so that the joins of lists are planned as before.
           (SELECT authsvc.shown_credits(a.remaining, a.refill_amount, a.refill_day, a.refill_time)
              FROM authsvc.key_credits c JOIN authsvc.credit_accounts a USING (account_id)
             WHERE c.key_id = k.key_id) AS credits
      FROM authsvc.keys k JOIN authsvc.key_uses u USING (key_id, owner_id);
