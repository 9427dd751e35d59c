-- What led to the revocation of a key, for programs.

-- With a constant default, so the table is not rewritten; a CHECK would read it. '', or 'leaked'. Empty: requested, also by those who do not know of this column.
ALTER TABLE authsvc.keys ADD COLUMN revoke_cause text NOT NULL DEFAULT '';

-- As before, with the new column.
CREATE OR REPLACE VIEW authsvc.key_records AS
    SELECT k.key_id, k.owner_id, k.key_prefix, k.display_name, k.folded_name, k.description, k.scopes,
           k.technical_contacts, k.annotations, k.create_time, k.creator_id, k.update_time, k.expire_time, k.revoke_time,
           k.revoker_id, k.revoke_reason, k.rotated_from_key_id, k.rotated_to_key_id, k.version,
           u.last_use_time, u.last_use_ip,
           u.key_id AS use_key_id,                            -- for orders that the index of key_uses serves
           u.answer,
           k.disable_time, k.disabled_until, k.disabler_id, k.disable_reason, k.disabled_by_platform, k.allowed_networks,
           k.revoke_cause
      FROM authsvc.keys k JOIN authsvc.key_uses u USING (key_id, owner_id);
