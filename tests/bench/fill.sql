-- The keys of the owners $1, as many as $2 says for each, at least 20. The keys of owners "retired…" and "lasting…" are
-- nearly all alike: the former have all but 20 revoked, the latter have 20 revoked and 20 expired ones, and the rest active
-- for ever. The owners "other-…" stand beside those that are measured.
--
-- Whatever a list can filter by is spread independently of the rest, by hashes of the key's number: 30 % are
-- revoked and 45 % past their expiry (which overlap), 30 % never expire, 40 % were never used, 40 % hold orders:read.
-- What is rare has 20 keys in each owner that is measured, so that all fill the same page; beside them, the rare
-- scope and the name "walrus" are common. Creation is spread evenly over 700 days that end at $3.
WITH owners AS (
    SELECT owner_id, size FROM unnest($1::text[], $2::int[]) AS o (owner_id, size)
), numbered AS (
    SELECT owner_id, size, i, i % (size / 20) AS turn, owner_id LIKE 'other-%' AS beside,
           $3::timestamptz - interval '700 days' + interval '700 days' * i / size AS create_time,
           CASE WHEN owner_id LIKE 'retired%' THEN i % (size / 20) <> 5
                WHEN owner_id LIKE 'lasting%' THEN i % (size / 20) = 5
                ELSE abs(hashint4extended(i, 1)) % 100 < 30 END AS revoked,
           CASE WHEN owner_id LIKE 'retired%' THEN 99
                WHEN owner_id LIKE 'lasting%' THEN CASE WHEN i % (size / 20) = 6 THEN 0 ELSE 99 END
                ELSE abs(hashint4extended(i, 4)) % 100 END AS d,
           abs(hashint4extended(i, 1)) % 100 AS a, abs(hashint4extended(i, 2)) % 100 AS b,
           abs(hashint4extended(i, 3)) % 100 AS c,
           abs(hashint4extended(i, 5)) % 100000 AS e
      FROM owners, generate_series(0, size - 1) AS i
), named AS (
    SELECT *,
           (ARRAY['Orders', 'Billing', 'Search', 'Import', 'Export', 'Mobile app', 'Partner', 'Nightly'])[1 + e % 8]
           || (ARRAY[' production ', ' staging ', ' testing '])[1 + c % 3]
           || CASE WHEN turn = 1 AND NOT beside THEN 'zebra ' WHEN turn = 4 OR beside AND b < 30 THEN 'walrus ' ELSE '' END
           || e AS display_name
      FROM numbered
), inserted AS (
    INSERT INTO authsvc.keys (
        key_id, owner_id, key_prefix, secret_hash, secret_origin, display_name, folded_name, description, scopes,
        technical_contacts, annotations, create_time, creator_id, update_time, expire_time, revoke_time, revoker_id,
        revoke_reason, rotated_from_key_id, rotated_to_key_id, version)
    SELECT 'key_' || md5(owner_id || '/' || i), owner_id, 'bench_live_' || substr(md5(i || '/' || owner_id), 1, 18),
           '$argon2id$v=19$m=1024,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g', 'minted',
           display_name, lower(display_name), 'Made by the benchmark',
           CASE WHEN turn = 2 OR beside AND a < 30 THEN ARRAY['audit:export'] ELSE '{}' END
           || CASE WHEN b < 40 THEN ARRAY['orders:read'] ELSE ARRAY['reports:read', 'reports:write'] END,
           '[{"name": "On call", "email": "oncall@example.com"}]', '{"team": "payments"}', create_time,
           CASE WHEN turn = 3 AND NOT beside THEN 'key_rare' ELSE 'key_creator' || c % 3 END, create_time,
           CASE WHEN d < 45 THEN $3 - interval '1 hour' * (1 + e % 5000)
                WHEN d < 70 THEN $3 + interval '1 hour' * (1 + e % 5000) END,
           CASE WHEN revoked THEN $3 - interval '1 hour' * (1 + e % 3000) END,
           CASE WHEN revoked THEN 'key_creator0' ELSE '' END, CASE WHEN revoked THEN 'left the company' ELSE '' END,
           '', '', 1
      FROM named
    RETURNING key_id, owner_id
)
INSERT INTO authsvc.key_uses (key_id, owner_id, last_use_time, last_use_ip)
SELECT key_id, owner_id,
       CASE WHEN abs(hashtextextended(key_id, 6)) % 100 >= 40
            THEN $3 - interval '1 minute' * (abs(hashtextextended(key_id, 7)) % 129600) END,
       CASE WHEN abs(hashtextextended(key_id, 6)) % 100 >= 40 THEN '192.0.2.7' ELSE '' END
  FROM inserted;
