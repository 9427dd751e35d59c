package io.github.authsvc.client;

import io.grpc.Status;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.attribute.BasicFileAttributes;
import java.nio.file.attribute.FileTime;
import java.util.function.Supplier;

/**
 * The key that the client calls authsvc with: a string, a supplier, or a file that is read when it
 * changes.
 */
final class OwnKey {
  // A file that is written again after this time certainly has another modification time.
  private static final long MTIME_GRANULARITY_MS = 2000;

  private final Path file;
  private final Supplier<String> current;
  // What was last read, and of which file, if there is a file.
  private String header;
  private Stamp stamp;

  private record Stamp(FileTime modified, Object file, long size) {}

  /** Says that a text is not a key, without the text. */
  private static final class NotAKeyException extends IllegalArgumentException {
    private static final long serialVersionUID = 1L;

    NotAKeyException(String message) {
      super(message);
    }
  }

  private OwnKey(Path file, Supplier<String> current, String header) {
    this.file = file;
    this.current = current;
    this.header = header;
  }

  static OwnKey none() {
    return new OwnKey(null, null, "");
  }

  static OwnKey of(Path file) {
    return new OwnKey(file, null, "");
  }

  static OwnKey of(Supplier<String> current) {
    return new OwnKey(null, current, "");
  }

  static OwnKey of(String key) {
    if (key.startsWith("~") || key.contains("/") || key.contains("\\")) {
      throw new IllegalArgumentException(
          "key looks like a path; to read the key from a file, set keyFile");
    }
    return new OwnKey(null, null, authorization(key));
  }

  /**
   * Returns the {@code authorization} header for a new attempt; "" for none. If the file is
   * missing, empty or partly written, the last key from it is used. Throws RefusedException if
   * there is no key.
   */
  String header() {
    try {
      if (file != null) {
        return ofFile();
      }
      // Without a lock: one slow answer must not keep other calls waiting.
      return current == null ? header : authorization(current.get());
    } catch (IOException | RuntimeException error) {
      // Without the message of an exception that somebody else threw: it could contain the key.
      String problem = error instanceof NotAKeyException ? error.getMessage() : nameOf(error);
      throw new RefusedException(
          "cannot get the client's own key: " + problem,
          Status.Code.UNAUTHENTICATED,
          "OWN_KEY_MISSING");
    }
  }

  private synchronized String ofFile() throws IOException {
    try {
      read();
    } catch (IOException | RuntimeException error) {
      if (header.isEmpty()) {
        throw error;
      }
    }
    return header;
  }

  // Usually, this reads only the attributes. A file that was written only just now could be written
  // again with the
  // same modification time, so it is read again the next time.
  private void read() throws IOException {
    BasicFileAttributes found = Files.readAttributes(file, BasicFileAttributes.class);
    Stamp now = new Stamp(found.lastModifiedTime(), found.fileKey(), found.size());
    if (!now.equals(stamp)) {
      header = authorization(text(Files.readAllBytes(file)));
      long age = System.currentTimeMillis() - found.lastModifiedTime().toMillis();
      stamp = age > MTIME_GRANULARITY_MS ? now : null;
    }
  }

  private static String nameOf(Exception error) {
    return error instanceof NoSuchFileException
        ? "the file does not exist"
        : error.getClass().getSimpleName();
  }

  // Editors and shells on Windows write a byte order mark first.
  private static String text(byte[] content) {
    boolean isUtf16 = content.length > 1 && isMark(content[0] & 0xff, content[1] & 0xff);
    String text = new String(content, isUtf16 ? StandardCharsets.UTF_16 : StandardCharsets.UTF_8);
    return text.startsWith("\ufeff") ? text.substring(1) : text;
  }

  private static boolean isMark(int first, int second) {
    return (first == 0xff && second == 0xfe) || (first == 0xfe && second == 0xff);
  }

  private static String authorization(String keyString) {
    String bare = keyString == null ? "" : keyString.strip();
    if (bare.isEmpty() || !bare.chars().allMatch(each -> each > 0x20 && each < 0x7f)) {
      throw new NotAKeyException(
          "the key is empty or has characters that no key string has; check that it was copied"
              + " completely");
    }
    return "Bearer " + bare;
  }
}
