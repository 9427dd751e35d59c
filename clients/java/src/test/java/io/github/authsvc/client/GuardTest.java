package io.github.authsvc.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import jakarta.servlet.DispatcherType;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.Collections;
import java.util.EnumSet;
import java.util.List;
import java.util.function.UnaryOperator;
import org.eclipse.jetty.ee10.servlet.FilterHolder;
import org.eclipse.jetty.ee10.servlet.ServletContextHandler;
import org.eclipse.jetty.ee10.servlet.ServletHolder;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.junit.jupiter.api.Test;

/** What the cases of ../vectors.json do not show of the guards. */
class GuardTest {
  private static final String KEY = "key-of-a-caller";
  private static final String DAY_AFTER_EPOCH = "Fri, 02 Jan 1970 00:00:00 GMT";

  /** The application sees the caller, and neither the credential nor what nobody has verified. */
  @Test
  void hidden() throws Exception {
    String body = asked("GET", builder -> builder).body();
    assertTrue(body.contains("owner=acme") && body.toLowerCase().contains("x-kept"), body);
    assertFalse(body.contains(KEY) || body.contains("somebody-else"), body);
  }

  /** If it is told to, the filter lets the application see the credential. */
  @Test
  void kept() throws Exception {
    String body = asked("GET", ServletGuard.Builder::keepCredential).body();
    assertTrue(body.contains(KEY) && !body.contains("somebody-else"), body);
  }

  /** A function of the service that fails lets nothing through. */
  @Test
  void failing() throws Exception {
    HttpResponse<String> response =
        asked(
            "GET",
            builder ->
                builder.clientAddress(
                    request -> {
                      throw new IllegalStateException(KEY);
                    }));
    assertEquals(503, response.statusCode());
    assertTrue(response.body().contains("VERIFIER_UNAVAILABLE") && !response.body().contains(KEY));
  }

  /** A refusal is a problem in JSON, and that of a HEAD has no body. */
  @Test
  void refused() throws Exception {
    HttpResponse<String> response = asked("GET", builder -> builder.accept(CredentialType.SESSION));
    assertEquals(401, response.statusCode());
    assertEquals(
        "application/problem+json", response.headers().firstValue("content-type").orElse(""));
    assertTrue(response.body().startsWith("{\"type\": \"urn:authsvc:problem:credential-invalid\""));
    assertEquals("", asked("HEAD", builder -> builder.accept(CredentialType.SESSION)).body());
  }

  /** Guards that cannot be meant are refused. */
  @Test
  void arguments() throws Exception {
    try (Service service = Service.start(request -> Service.GOOD);
        AuthClient client = service.client()) {
      assertInvalid(() -> ServletGuard.builder(client).build());
      assertInvalid(() -> ServletGuard.builder(client).scopes().accept().build());
      assertInvalid(() -> ServletGuard.builder(client).scopes(""));
      assertInvalid(() -> GrpcGuard.builder(client).build());
      for (String pattern : List.of("a.S", "a.S/", "*", "a.S/M*", "/a/b/c", "")) {
        assertInvalid(() -> GrpcGuard.builder(client).scopes(pattern, "x"));
      }
      assertInvalid(() -> GrpcGuard.builder(client).scopes("a.S/M", "x").open("/a.S/M"));
    }
    assertThrows(IllegalStateException.class, GrpcGuard::caller);
  }

  /** The rule of a method precedes that of its service, and that of all others. */
  @Test
  void precedence() {
    Access access = new Access();
    access.add("a.S/*", new Access.Rule(List.of("x"), false));
    access.add("a.S/M", new Access.Rule(List.of("y"), false));
    assertEquals(List.of("y"), access.rule("a.S/M").scopes());
    assertEquals(List.of("x"), access.rule("a.S/N").scopes());
    assertNull(access.rule("a.T/M"));
    access.setForAll(List.of("z"));
    assertEquals(List.of("z"), access.rule("a.T/M").scopes());
  }

  /** What nobody has verified cannot be read as a number or a date either. */
  @Test
  void hiddenNumbers() throws Exception {
    String body = asked("GET", builder -> builder).body();
    assertTrue(body.contains("int=-1 date=-1 kept=42,86400000"), body);
  }

  private static String numbers(HttpServletRequest request) {
    return String.format(
        " int=%d date=%d kept=%d,%d",
        request.getIntHeader("X-Auth-Key-Id"),
        request.getDateHeader("X_Auth_Scopes"),
        request.getIntHeader("x-number"),
        request.getDateHeader("x-date"));
  }

  private static HttpResponse<String> asked(String method, UnaryOperator<ServletGuard.Builder> made)
      throws Exception {
    HttpServlet servlet =
        new HttpServlet() {
          @Override
          protected void doGet(HttpServletRequest request, HttpServletResponse response)
              throws IOException {
            StringBuilder seen =
                new StringBuilder("owner=" + ServletGuard.caller(request).ownerId());
            for (String name : Collections.list(request.getHeaderNames())) {
              seen.append(' ').append(name).append('=').append(request.getHeader(name));
            }
            seen.append(request.getHeader("Authorization"))
                .append(request.getHeaders("X-Auth-Owner-Id").hasMoreElements())
                .append(numbers(request));
            response.getWriter().print(seen);
          }
        };
    ServletContextHandler context = new ServletContextHandler();
    context.addServlet(new ServletHolder(servlet), "/*");
    Server server = new Server();
    ServerConnector connector = new ServerConnector(server);
    connector.setHost("127.0.0.1");
    server.addConnector(connector);
    server.setHandler(context);
    try (Service service = Service.start(request -> Service.GOOD);
        AuthClient client = service.client()) {
      ServletGuard guard = made.apply(ServletGuard.builder(client).scopes()).build();
      context.addFilter(new FilterHolder(guard), "/*", EnumSet.of(DispatcherType.REQUEST));
      server.start();
      HttpRequest request =
          HttpRequest.newBuilder(URI.create("http://127.0.0.1:" + connector.getLocalPort() + "/"))
              .header("authorization", "Bearer " + KEY)
              .header("x-auth-owner-id", "somebody-else")
              .header("x-kept", "y")
              .header("x-auth-key-id", "42")
              .header("x-auth-scopes", DAY_AFTER_EPOCH)
              .header("x_auth_scopes", DAY_AFTER_EPOCH)
              .header("x-number", "42")
              .header("x-date", DAY_AFTER_EPOCH)
              .method(method, HttpRequest.BodyPublishers.noBody())
              .build();
      return HttpClient.newBuilder()
          .version(HttpClient.Version.HTTP_1_1)
          .build()
          .send(request, HttpResponse.BodyHandlers.ofString());
    } finally {
      server.stop();
    }
  }

  private static void assertInvalid(org.junit.jupiter.api.function.Executable made) {
    assertThrows(IllegalArgumentException.class, made);
  }
}
