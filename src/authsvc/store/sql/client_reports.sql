-- name: report
-- The clients $4 of a worker. Deletes what processes left behind that have ended.
WITH ended AS (
    DELETE FROM authsvc.client_reports WHERE report_time < clock_timestamp() - interval '1 minute' AND worker_process_id <> $1)
INSERT INTO authsvc.client_reports AS r (worker_process_id, host, pid, report_time, client_count, clients)
SELECT $1, $2, $3, clock_timestamp(), jsonb_array_length($4::jsonb), $4::jsonb
 WHERE set_config('synchronous_commit', 'off', true) IS NOT NULL
ON CONFLICT (worker_process_id) DO UPDATE
   SET report_time = excluded.report_time, client_count = excluded.client_count, clients = excluded.clients;

-- name: withdraw
DELETE FROM authsvc.client_reports
 WHERE worker_process_id = $1 AND set_config('synchronous_commit', 'off', true) IS NOT NULL;

-- name: find
-- Those that a change waits for come first. A report is believed for $2.
SELECT r.host, r.pid, c.credential_id, c.address, c.instance, c.held, c.late, c.waited_seconds,
       r.report_time - make_interval(secs => c.waited_seconds) AS waited_since, count(*) OVER () AS total
  FROM authsvc.client_reports r
 CROSS JOIN LATERAL jsonb_to_recordset(r.clients) AS c (
           credential_id text, address text, instance text, held integer, late integer, waited_seconds double precision)
 WHERE r.report_time > clock_timestamp() - $2::interval
 ORDER BY c.waited_seconds DESC, c.late DESC, r.host, r.pid, c.address, c.instance
 LIMIT $1;
