package io.github.authsvc.client;

import io.github.authsvc.v1.KeyServiceGrpc;
import io.github.authsvc.v1.VerdictCode;
import io.github.authsvc.v1.VerifyKeyRequest;
import io.github.authsvc.v1.VerifyKeyResponse;
import io.grpc.Grpc;
import io.grpc.InsecureServerCredentials;
import io.grpc.Server;
import io.grpc.Status;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.time.Duration;
import java.util.function.UnaryOperator;

/** A service that answers as a test says, in this process. */
final class Service implements AutoCloseable {
  static final VerifyKeyResponse GOOD =
      VerifyKeyResponse.newBuilder()
          .setValid(true)
          .setCode(VerdictCode.VERDICT_CODE_VALID)
          .setKeyId("key_1")
          .setOwnerId("acme")
          .build();

  /** Answers a request. */
  interface Answering {
    VerifyKeyResponse answer(VerifyKeyRequest request) throws Exception;
  }

  private final Server server;

  private Service(Server server) {
    this.server = server;
  }

  static Service start(Answering answering) throws IOException {
    KeyServiceGrpc.KeyServiceImplBase keys =
        new KeyServiceGrpc.KeyServiceImplBase() {
          @Override
          public void verifyKey(
              VerifyKeyRequest request, StreamObserver<VerifyKeyResponse> answers) {
            try {
              answers.onNext(answering.answer(request));
              answers.onCompleted();
            } catch (Exception error) {
              answers.onError(
                  Status.INTERNAL.withDescription("the test failed").asRuntimeException());
            }
          }
        };
    Server server =
        Grpc.newServerBuilderForPort(0, InsecureServerCredentials.create())
            .addService(keys)
            .build();
    return new Service(server.start());
  }

  AuthClient client() {
    return client(each -> each.key("own"));
  }

  AuthClient client(UnaryOperator<AuthClient.Builder> key) {
    String address = "127.0.0.1:" + server.getPort();
    return key.apply(AuthClient.builder(address))
        .plaintext()
        .deadline(Duration.ofSeconds(30))
        .build();
  }

  @Override
  public void close() {
    server.shutdownNow();
  }
}
