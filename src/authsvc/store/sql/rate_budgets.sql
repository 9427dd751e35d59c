-- name: borrow_units
-- Loans of many callers, in a transaction of their own.
SELECT lent, used FROM authsvc.borrow_units($1, $2, $3, $4, $5, $6, $7, $8);

-- name: give_back_units
-- Budgets are locked in the order that they are given in, which all who lock several share. A budget that is gone has all its units.
WITH locked AS MATERIALIZED (
    SELECT b.subject, b.name, u.units
      FROM unnest($1::text[], $2::text[], $3::float8[]) WITH ORDINALITY AS u (subject, name, units, place)
      JOIN authsvc.rate_budgets b ON b.subject = u.subject AND b.name = u.name
     WHERE set_config('synchronous_commit', 'off', true) IS NOT NULL
     ORDER BY u.place FOR UPDATE OF b)
UPDATE authsvc.rate_budgets b SET used = greatest(0, b.used - locked.units)
  FROM locked WHERE b.subject = locked.subject AND b.name = locked.name;

-- name: delete_due_budgets
-- A batch of those of which nothing counts as taken any more: of limits that were not used lately, were removed, or whose key is gone.
WITH due AS (
    SELECT subject, name FROM authsvc.rate_budgets WHERE due_time < authsvc.budget_time() - interval '1 minute' LIMIT $1
       FOR UPDATE SKIP LOCKED),
gone AS (
    DELETE FROM authsvc.rate_budgets b USING due WHERE b.subject = due.subject AND b.name = due.name RETURNING true)
SELECT count(*) FROM gone;
