package io.github.authsvc.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.authsvc.v1.CreateKeyRequest;
import io.github.authsvc.v1.GetKeyRequest;
import io.github.authsvc.v1.KeyServiceGrpc;
import io.grpc.Status;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.locks.LockSupport;
import java.util.function.Supplier;
import java.util.function.UnaryOperator;
import org.junit.jupiter.api.Test;

/** What the cases of ../vectors.json do not show of the client. */
class AuthClientTest {
  private static final String SECRET = "authsvc_live_secret";

  /** When the service is gone, the answer is not known; a call does not wait for its deadline. */
  @Test
  void unavailable() throws Exception {
    Service service = Service.start(request -> Service.GOOD);
    try (AuthClient client = service.client()) {
      assertTrue(client.verifyKey("x").valid());
      service.close();
      UnavailableException error =
          assertThrows(UnavailableException.class, () -> client.verifyKey("x"));
      assertEquals(Status.Code.UNAVAILABLE, error.code());
    }
  }

  /** A client that was closed says so, also to calls that were waiting. */
  @Test
  void closed() throws Exception {
    CountDownLatch asked = new CountDownLatch(1);
    CountDownLatch ended = new CountDownLatch(1);
    try (Service service =
        Service.start(
            request -> {
              asked.countDown();
              ended.await();
              return Service.GOOD;
            })) {
      AuthClient client = service.client();
      CompletableFuture<ClientException> failed =
          CompletableFuture.supplyAsync(
              () -> assertThrows(UnavailableException.class, () -> client.verifyKey("x")));
      asked.await();
      client.close();
      assertEquals("CLIENT_CLOSED", failed.get(30, TimeUnit.SECONDS).reason());
      assertThrows(UnavailableException.class, () -> client.verifyKey("x"));
      ended.countDown();
    }
  }

  /** A thread that is interrupted does not wait for another attempt, and stays interrupted. */
  @Test
  void interrupted() {
    try (AuthClient client = builder().attempts(1000).deadline(Duration.ofMinutes(5)).build()) {
      Thread.currentThread().interrupt();
      assertThrows(UnavailableException.class, () -> client.verifyKey("x"));
      assertTrue(Thread.interrupted());
    }
  }

  /** The own key is in no text of the client, and in no exception. */
  @Test
  void secrets() {
    try (AuthClient client = builder(each -> each.key(SECRET)).attempts(1).build()) {
      UnavailableException error =
          assertThrows(UnavailableException.class, () -> client.verifyKey(SECRET + "_of_a_caller"));
      assertFalse((client + " " + error + error.getCause()).contains(SECRET));
    }
    for (RuntimeException thrown :
        List.of(
            new IllegalStateException("cannot decrypt " + SECRET),
            new IllegalArgumentException("cannot parse " + SECRET))) {
      AuthClient.Builder throwing =
          builder(
              each ->
                  each.key(
                      () -> {
                        throw thrown;
                      }));
      try (AuthClient client = throwing.build()) {
        RefusedException error = assertThrows(RefusedException.class, () -> client.verifyKey("x"));
        assertEquals("OWN_KEY_MISSING", error.reason());
        StringWriter trace = new StringWriter();
        error.printStackTrace(new PrintWriter(trace));
        assertFalse(trace.toString().contains(SECRET));
        assertTrue(error.getMessage().contains(thrown.getClass().getSimpleName()));
      }
    }
  }

  /** What this package itself says about a key is shown, since it does not repeat the key. */
  @Test
  void ownKeyThatIsNone() {
    try (AuthClient client = builder(each -> each.key(() -> SECRET + "\n" + SECRET)).build()) {
      RefusedException error = assertThrows(RefusedException.class, () -> client.verifyKey("x"));
      assertTrue(error.getMessage().contains("copied"), error.getMessage());
      assertFalse(error.getMessage().contains(SECRET));
    }
  }

  /** Calls do not wait for each other's key. */
  @Test
  void slowKeys() throws Exception {
    CyclicBarrier all = new CyclicBarrier(3);
    Supplier<String> slow =
        () -> {
          try {
            all.await(30, TimeUnit.SECONDS);
            return "own";
          } catch (Exception alone) {
            throw new IllegalStateException(alone);
          }
        };
    try (Service service = Service.start(request -> Service.GOOD);
        AuthClient client = service.client(each -> each.key(slow))) {
      List<CompletableFuture<Verdict>> calls = new ArrayList<>();
      ExecutorService threads = Executors.newFixedThreadPool(3);
      for (int n = 0; n < 3; n++) {
        calls.add(CompletableFuture.supplyAsync(() -> client.verifyKey("x"), threads));
      }
      threads.shutdown();
      for (CompletableFuture<Verdict> call : calls) {
        assertTrue(call.get(60, TimeUnit.SECONDS).valid());
      }
    }
  }

  /** The time that the key takes is part of the deadline. When it is over, nothing is sent. */
  @Test
  void lateKey() throws Exception {
    Duration deadline = Duration.ofMillis(200);
    Supplier<String> late =
        () -> {
          long ends = System.nanoTime() + deadline.toNanos();
          while (System.nanoTime() - ends < 0) {
            LockSupport.parkNanos(ends - System.nanoTime());
          }
          return "own";
        };
    AtomicInteger asked = new AtomicInteger();
    try (Service service =
            Service.start(
                request -> {
                  asked.incrementAndGet();
                  return Service.GOOD;
                });
        AuthClient client = service.client(each -> each.key(late))) {
      UnavailableException error =
          assertThrows(
              UnavailableException.class,
              () -> client.verifyKey("x", VerifyOptions.requiring().deadline(deadline)));
      assertEquals(Status.Code.DEADLINE_EXCEEDED, error.code());
      assertEquals(0, asked.get());
    }
  }

  /** Arguments that cannot be meant are refused, and the message says what to do. */
  @Test
  void arguments() {
    assertInvalid(
        "set key or keyFile", () -> AuthClient.builder("localhost:1").plaintext().build());
    assertInvalid("only one of", () -> builder().keyFile(Path.of("x")));
    assertInvalid("looks like a path", () -> AuthClient.builder("x:1").key("/run/secrets/key"));
    assertInvalid("positive", () -> builder().attempts(0).build());
    assertInvalid("positive", () -> builder().deadline(Duration.ZERO).build());
    assertInvalid("belong together", () -> new Tls(null, Path.of("x"), null, null));
    assertInvalid("plaintext-beyond-loopback", () -> builder().insecure("yes"));
    for (String address :
        List.of("127.0.0.1.example:1", "192.0.2.1:1", "dns://localhost/x:1", "authsvc:1")) {
      assertInvalid("plain text", () -> AuthClient.builder(address).key("own").plaintext().build());
    }
    for (String address : List.of("localhost:1", "127.0.0.2:1", "[::1]:1", "dns:///localhost:1")) {
      AuthClient.builder(address).key("own").plaintext().build().close();
    }
  }

  /** Pauses are 25 to 50 ms, then twice as long each, and a second at most. */
  @Test
  void pauses() {
    assertEquals(25_000_000, Calls.pauseNanos(1, 0));
    assertEquals(50_000_000, Calls.pauseNanos(1, 1));
    assertEquals(100_000_000, Calls.pauseNanos(2, 1));
    assertEquals(1_000_000_000, Calls.pauseNanos(5000, 1));
  }

  /** Only calls are retried that change nothing twice. */
  @Test
  void retries() {
    GetKeyRequest any = GetKeyRequest.getDefaultInstance();
    for (String method :
        List.of("GetKey", "ListKeys", "PreviewRevocation", "VerifyKey", "RevokeSession")) {
      assertTrue(Calls.isSafeToRetry(method, any), method);
    }
    for (String method :
        List.of("RotateKey", "UpdateKey", "DeleteKey", "RevokeAllSessions", "BatchRevokeKeys")) {
      assertFalse(Calls.isSafeToRetry(method, any), method);
    }
    CreateKeyRequest.Builder create = CreateKeyRequest.newBuilder();
    assertFalse(Calls.isSafeToRetry("CreateKey", create.build()));
    assertTrue(Calls.isSafeToRetry("CreateKey", create.setRequestId("once").build()));
  }

  /** Any RPC can be called, with the exceptions of this package. */
  @Test
  void rpcs() throws Exception {
    try (Service service = Service.start(request -> Service.GOOD);
        AuthClient client = service.client()) {
      RefusedException error =
          assertThrows(
              RefusedException.class,
              () ->
                  client.call(
                      KeyServiceGrpc.getGetKeyMethod(), GetKeyRequest.getDefaultInstance()));
      assertEquals(Status.Code.UNIMPLEMENTED, error.code());
    }
  }

  /** Addresses lose brackets, port and zone. */
  @Test
  void addresses() {
    assertEquals("192.0.2.7", Arguments.address(" 192.0.2.7:80"));
    assertEquals("2001:db8::1", Arguments.address("[2001:DB8::1]:443"));
    assertEquals("fe80::1", Arguments.address("fe80::1%eth0"));
    assertEquals("192.0.2.7", Arguments.address("::ffff:192.0.2.7"));
    for (String text : List.of("", "testclient", "[::1", "[::1]x", "1.2.3", "x".repeat(99))) {
      assertEquals("", Arguments.address(text), text);
    }
  }

  /**
   * Texts that cannot be sent are cleaned, and client hints are found whatever the case of their
   * names.
   */
  @Test
  void displayed() {
    assertEquals("a\ufffd", Arguments.agent("a\ud800"));
    var hints =
        Arguments.hints(
            List.of(new Header("Sec-CH-UA-Platform", "\"Windows\""), new Header("x", "y")));
    assertEquals("\"Windows\"", hints.getPlatform());
    assertEquals(null, Arguments.hints(List.of(new Header("x", "y"))));
  }

  private static AuthClient.Builder builder() {
    return builder(each -> each.key("own"));
  }

  private static AuthClient.Builder builder(UnaryOperator<AuthClient.Builder> key) {
    return key.apply(AuthClient.builder("127.0.0.1:1").plaintext());
  }

  private static void assertInvalid(String told, org.junit.jupiter.api.function.Executable made) {
    String message = assertThrows(IllegalArgumentException.class, made).getMessage();
    assertTrue(message.contains(told), message);
  }
}
