package io.github.authsvc.client;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import com.google.rpc.Status;
import io.grpc.Metadata;
import java.time.Duration;

/**
 * The details of a status of gRPC (AIP-193): the reason of authsvc, or "", and when to retry, or
 * null.
 */
record Details(String reason, Duration retryAfter) {
  static final String DOMAIN = "authsvc";
  private static final Metadata.Key<byte[]> TRAILER =
      Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER);
  private static final Details NONE = new Details("", null);

  /** Returns the details in trailers. Those that cannot be read are ignored. */
  static Details read(Metadata trailers) {
    byte[] sent = trailers == null ? null : trailers.get(TRAILER);
    if (sent == null) {
      return NONE;
    }
    String reason = "";
    Duration retryAfter = null;
    try {
      for (Any detail : Status.parseFrom(sent).getDetailsList()) {
        if (detail.is(ErrorInfo.class)) {
          ErrorInfo info = detail.unpack(ErrorInfo.class);
          reason = info.getDomain().equals(DOMAIN) ? info.getReason() : reason;
        } else if (detail.is(RetryInfo.class)) {
          com.google.protobuf.Duration delay = detail.unpack(RetryInfo.class).getRetryDelay();
          retryAfter = Duration.ofSeconds(delay.getSeconds(), delay.getNanos());
        }
      }
    } catch (InvalidProtocolBufferException fromAProxy) {
      return NONE;
    }
    return new Details(reason, retryAfter);
  }
}
