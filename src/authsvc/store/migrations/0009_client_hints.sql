-- What a browser tells of itself beside its user agent (Sec-CH-UA-…), as sent with the last activity.

ALTER TABLE authsvc.sessions ADD COLUMN client_hints jsonb NOT NULL DEFAULT '{}'; -- {"platform_version": "\"15.0.0\""}

-- As session_rows, and with it. That one stays for the release before: to change it would fail statements that its
-- running workers have prepared.
CREATE VIEW authsvc.session_records AS
    SELECT s.session_id, s.owner_id, s.key_prefix, s.scopes, s.annotations, s.create_time, s.creator_id,
           s.latest_expire_time, s.idle_timeout, s.last_activity_time, s.user_agent, s.ip_address, s.epoch,
           coalesce(s.revoke_time, e.revoke_time) AS revoke_time,
           CASE WHEN s.revoke_time IS NULL THEN coalesce(e.revoker_id, '') ELSE s.revoker_id END AS revoker_id,
           s.client_hints
      FROM authsvc.sessions s
      LEFT JOIN LATERAL (
          SELECT revoke_time, revoker_id FROM authsvc.session_ends
           WHERE owner_id = s.owner_id AND epoch > s.epoch ORDER BY epoch LIMIT 1) e ON true;
