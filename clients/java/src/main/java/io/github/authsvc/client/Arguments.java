package io.github.authsvc.client;

import com.google.common.net.InetAddresses;
import io.github.authsvc.v1.ClientHints;
import java.net.InetAddress;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/**
 * What is asked about a credential, as it can be sent. What is only displayed never fails a
 * verification.
 */
final class Arguments {
  private static final int MAX_ADDRESS_LENGTH = 64;
  // authsvc keeps a quarter of this.
  private static final int MAX_AGENT_LENGTH = 2048;
  private static final int MAX_HINT_LENGTH = 512;

  private Arguments() {}

  /** Returns the scopes. Throws IllegalArgumentException for one that is invalid. */
  static List<String> scopes(Iterable<String> given) {
    List<String> scopes = new ArrayList<>();
    for (String scope : given) {
      if (scope == null
          || scope.isBlank()
          || !scope.chars().allMatch(each -> each >= 0x20 && each < 0x7f)) {
        throw new IllegalArgumentException(
            quoted(scope) + " is not a valid scope; use a form like orders:read");
      }
      scopes.add(scope);
    }
    return List.copyOf(scopes);
  }

  /** Returns an address without brackets, port and zone, or "" if it is not an address. */
  static String address(String text) {
    String bare = text.strip();
    if (bare.length() > MAX_ADDRESS_LENGTH) {
      return "";
    }
    if (bare.startsWith("[")) {
      int end = bare.indexOf(']');
      if (end < 0 || !(end == bare.length() - 1 || bare.charAt(end + 1) == ':')) {
        return "";
      }
      bare = bare.substring(1, end);
    } else if (bare.indexOf(':') == bare.lastIndexOf(':') && bare.contains(":")) {
      bare = bare.substring(0, bare.indexOf(':'));
    }
    int zone = bare.indexOf('%');
    bare = zone < 0 ? bare : bare.substring(0, zone);
    if (!InetAddresses.isInetAddress(bare)) {
      return "";
    }
    InetAddress address = InetAddresses.forString(bare);
    return InetAddresses.toAddrString(address);
  }

  /** Returns a user agent that can be sent. */
  static String agent(String text) {
    return sendable(text, MAX_AGENT_LENGTH);
  }

  /** Returns the client hints in headers, or null if there are none. */
  static ClientHints hints(Iterable<Header> headers) {
    ClientHints.Builder hints = ClientHints.newBuilder();
    for (Header header : headers) {
      String value = sendable(header.value(), MAX_HINT_LENGTH);
      switch (header.name().toLowerCase(Locale.ROOT)) {
        case "sec-ch-ua" -> hints.setBrands(value);
        case "sec-ch-ua-full-version-list" -> hints.setFullVersionList(value);
        case "sec-ch-ua-platform" -> hints.setPlatform(value);
        case "sec-ch-ua-platform-version" -> hints.setPlatformVersion(value);
        case "sec-ch-ua-model" -> hints.setModel(value);
        case "sec-ch-ua-mobile" -> hints.setMobile(value);
        case "sec-ch-ua-form-factors" -> hints.setFormFactors(value);
        default -> {}
      }
    }
    ClientHints found = hints.build();
    return found.equals(ClientHints.getDefaultInstance()) ? null : found;
  }

  // Halves of characters that are outside of Unicode's first plane cannot be sent.
  private static String sendable(String text, int longest) {
    String cut = text.length() > longest ? text.substring(0, longest) : text;
    StringBuilder sent = new StringBuilder(cut.length());
    cut.codePoints()
        .forEach(each -> sent.appendCodePoint(each >= 0xd800 && each <= 0xdfff ? 0xfffd : each));
    return sent.toString();
  }

  static String quoted(String text) {
    return text == null ? "null" : '"' + text + '"';
  }
}
