package io.github.authsvc.client;

/** The type of a presented credential. */
public enum CredentialType {
  /** A key string. */
  KEY,
  /** A session token. */
  SESSION;

  /**
   * Returns the type of a credential by its form: the second part of a session token is {@code
   * session}.
   */
  static CredentialType of(String credential) {
    String[] parts = credential.split("_", 3);
    return parts.length == 3 && parts[1].equals("session") ? SESSION : KEY;
  }
}
