-- name: hold_authority
SELECT * FROM authsvc.hold_authority($1, $2, $3, $4, $5, $6, $7);
