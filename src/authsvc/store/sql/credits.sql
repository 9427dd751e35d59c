-- name: borrow_credits
-- Loans of many callers, in a transaction of their own.
SELECT lent, remaining, epochs, refill_amounts, refill_seconds FROM authsvc.borrow_credits($1, $2, $3, $4, $5);

-- name: give_back_credits
-- Accounts are locked in the order of their ids, as by all who lock several. What was borrowed before `remaining` was set is gone, and
-- no more comes back than was spent.
WITH locked AS MATERIALIZED (
    SELECT a.account_id, u.units
      FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS u (account_id, epoch, units)
      JOIN authsvc.credit_accounts a ON a.account_id = u.account_id AND a.epoch = u.epoch
     WHERE set_config('synchronous_commit', 'on', true) IS NOT NULL AND set_config('lock_timeout', '2000', true) IS NOT NULL
     ORDER BY a.account_id FOR NO KEY UPDATE OF a)
UPDATE authsvc.credit_accounts a
   SET remaining = a.remaining + least(locked.units, a.spent), spent = a.spent - least(locked.units, a.spent)
  FROM locked WHERE a.account_id = locked.account_id;

-- name: lock_account
SELECT FROM authsvc.credit_accounts WHERE account_id = $1 FOR NO KEY UPDATE;

-- name: refill_account
SELECT authsvc.refill_credits(ARRAY[$1]);

-- name: read_account
-- The account $1, and whether the key $2 has it.
SELECT authsvc.shown_credits(a.remaining, a.refill_amount, a.refill_day, a.refill_time) AS credits, a.spent,
       EXISTS (SELECT FROM authsvc.key_credits c WHERE c.key_id = $2) AS is_of_key
  FROM authsvc.credit_accounts a WHERE a.account_id = $1;

-- name: set_credits
-- The account $2 of the key $1. With $6, what remains is kept, and $3 is for a new account only.
WITH account AS (
    INSERT INTO authsvc.credit_accounts AS a (account_id, remaining, refill_amount, refill_day, refill_time, epoch)
    VALUES ($2, $3, $4, $5, authsvc.next_refill(authsvc.budget_time(), $5), authsvc.next_credit_epoch(0))
        ON CONFLICT (account_id) DO UPDATE
       SET remaining = CASE WHEN $6 THEN a.remaining ELSE excluded.remaining END,
           spent = CASE WHEN $6 THEN a.spent ELSE 0 END,
           epoch = CASE WHEN $6 THEN a.epoch ELSE authsvc.next_credit_epoch(a.epoch) END,
           refill_amount = excluded.refill_amount, refill_day = excluded.refill_day,
           refill_time = CASE WHEN a.refill_day = excluded.refill_day THEN a.refill_time ELSE excluded.refill_time END
    RETURNING a.account_id, a.epoch)
INSERT INTO authsvc.key_credits AS c (key_id, account_id, epoch) SELECT $1, account_id, epoch FROM account
    ON CONFLICT (key_id) DO UPDATE SET epoch = excluded.epoch;

-- name: take_credits_away
-- The account stays for other keys that have it. Otherwise it is purged.
DELETE FROM authsvc.key_credits WHERE key_id = $1;

-- name: share_credits
-- The successor of a key has its account.
INSERT INTO authsvc.key_credits (key_id, account_id, epoch) SELECT $2, account_id, epoch FROM authsvc.key_credits WHERE key_id = $1;

-- name: find_refund
SELECT amount FROM authsvc.credit_refunds WHERE account_id = $1 AND refund_id = $2;

-- name: refund
WITH noted AS (
    INSERT INTO authsvc.credit_refunds (account_id, refund_id, amount, refund_time) VALUES ($1, $2, $3, $4))
UPDATE authsvc.credit_accounts SET remaining = remaining + $3, spent = spent - $3 WHERE account_id = $1;

-- name: delete_old_refunds
-- A batch of those before $1.
WITH old AS (
    SELECT account_id, refund_id FROM authsvc.credit_refunds WHERE refund_time < $1 LIMIT $2 FOR UPDATE SKIP LOCKED),
gone AS (
    DELETE FROM authsvc.credit_refunds r USING old WHERE r.account_id = old.account_id AND r.refund_id = old.refund_id RETURNING true)
SELECT count(*) FROM gone;

-- name: delete_unused_accounts
-- A batch of those whose keys are gone, or have no credits any more.
WITH unused AS (
    SELECT account_id FROM authsvc.credit_accounts a
     WHERE NOT EXISTS (SELECT FROM authsvc.key_credits c WHERE c.account_id = a.account_id) LIMIT $1 FOR UPDATE SKIP LOCKED),
gone AS (
    DELETE FROM authsvc.credit_accounts a USING unused WHERE a.account_id = unused.account_id RETURNING true)
SELECT count(*) FROM gone;
