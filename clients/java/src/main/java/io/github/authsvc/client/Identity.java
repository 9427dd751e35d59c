package io.github.authsvc.client;

import java.util.List;
import java.util.Map;

/**
 * The credential of an accepted call, and its owner.
 *
 * @param credentialId the id of the key or session
 * @param type its type
 * @param ownerId the user or organization that it belongs to
 * @param scopes its scopes, sorted
 * @param annotations those of a key
 */
public record Identity(
    String credentialId,
    CredentialType type,
    String ownerId,
    List<String> scopes,
    Map<String, String> annotations) {

  /** Returns whether the credential has a scope, for checks that depend on the request. */
  public boolean has(String scope) {
    return scopes.contains(scope) || scopes.contains(Verdict.FULL_ACCESS);
  }

  /** Returns the identity for a verdict about these scopes. Throws Refusal if it is not VALID. */
  static Identity of(Verdict verdict, List<String> scopes) throws Refusal {
    if (!verdict.valid()) {
      throw Refusal.of(verdict, scopes);
    }
    return new Identity(
        verdict.credentialId(),
        verdict.type(),
        verdict.ownerId(),
        verdict.scopes(),
        verdict.annotations());
  }
}
