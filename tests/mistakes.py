"""What a server, a clone or a careless hand leaves in place of a file, and the words for it."""

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 12345\n"
KINDS = {
    "pointer": (POINTER, "a Git LFS pointer, .*git lfs pull"),
    "page": (b"<!DOCTYPE html><html><body>log in</body></html>", "an HTML or XML page, .*resolve"),
    "empty": (b"", r"empty|0 bytes"),
    "zip": (b"PK\3\4" + bytes(99), "a zip archive"),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(99), "a picture"),
    "zeros": (bytes(1000), "nothing but zero bytes, .*download it again"),
}
