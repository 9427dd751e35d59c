package io.github.authsvc.client;

import io.grpc.ChannelCredentials;
import io.grpc.TlsChannelCredentials;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Path;

/**
 * The trusted authority and the client certificate, as PEM files that are read when the client is
 * built.
 *
 * @param ca the trusted authority; null for those that come with Java
 * @param certificate for a service that requires client certificates, or null
 * @param privateKey the private key of the certificate, or null
 * @param serverName the name in the service's certificate; null if it is the host of the address
 */
public record Tls(Path ca, Path certificate, Path privateKey, String serverName) {
  /** Trusts the authorities that come with Java. */
  public static final Tls DEFAULT = new Tls(null, null, null, null);

  /** Checks that the certificate and its private key are both there, or neither. */
  public Tls {
    if ((certificate == null) != (privateKey == null)) {
      throw new IllegalArgumentException(
          "tls: certificate and privateKey belong together; set both, or neither");
    }
  }

  /** Trusts one authority. */
  public static Tls trusting(Path ca) {
    return new Tls(ca, null, null, null);
  }

  ChannelCredentials credentials() {
    TlsChannelCredentials.Builder credentials = TlsChannelCredentials.newBuilder();
    try {
      if (ca != null) {
        credentials.trustManager(ca.toFile());
      }
      if (certificate != null) {
        credentials.keyManager(certificate.toFile(), privateKey.toFile());
      }
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
    return credentials.build();
  }
}
