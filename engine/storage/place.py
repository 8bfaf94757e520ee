"""Places: paths of this machine, and objects of stores named by URIs, whose keys are literal.

`s3://bucket/my trip/50%.mp4` is the object of that very key: nothing is escaped, `#` and `?` are letters. What follows
the last `?` is split off only if all of it is options of that store. File URIs alone are escaped, as they always are.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote_to_bytes

_S3 = {"allow_bucket_creation", "allow_bucket_deletion", "allow_delayed_open", "endpoint_override", "region", "scheme"}
_TLS = {"smart_defaults", "tls_ca_dir_path", "tls_ca_file_path", "tls_verify_certificates"}
_GOOGLE = {"endpoint_override", "project_id", "retry_limit_seconds", "scheme"}
_AZURE_PLACES = {"background_writes", "blob_storage_authority", "dfs_storage_authority", "enable_tls"}
_AZURE_KEYS = {"client_id", "client_secret", "credential_kind", "tenant_id"}
_HADOOP = {"buffer_size", "default_block_size", "kerb_ticket", "replication", "user"}
OPTIONS = {
    "s3": _S3 | _TLS,
    **dict.fromkeys(("gs", "gcs"), _GOOGLE),
    **dict.fromkeys(("abfs", "abfss"), _AZURE_PLACES | _AZURE_KEYS),
    **dict.fromkeys(("hdfs", "viewfs"), _HADOOP),
}
"""What may follow the `?` of a URI, by the scheme of a store that is read: pyarrow's own options."""

WEB = ("http", "https")
"""Schemes of web servers: of these, single files are read."""

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_NO_OPTION = "?scheme=https"  # what is so anyway: it keeps the end of a key from being taken for options


@dataclass(frozen=True)
class Place:
    """A path of this machine (`root` is empty), or a key (`path`) below a root such as `s3://bucket`, with options."""

    root: str
    path: str
    options: str = ""

    @classmethod
    def parse(cls, text: str) -> Place:
        """The place that a path or URI names; ValueError for a URI that names no bucket, or a file elsewhere."""
        if not (uri := _URI.fullmatch(text)):
            return cls("", text)
        scheme, rest = uri[1].lower(), uri[2]
        if scheme == "file":
            host, slash, path = rest.partition("/")
            if host not in ("", "localhost") or not slash:
                raise ValueError(f"{text}: is no file of this machine: write file:///folder/file")
            return cls("", os.fsdecode(unquote_to_bytes(os.fsencode(f"/{path}"))))
        rest, options = _split_options(scheme, rest)
        authority, _, key = rest.partition("/")
        if not authority:
            raise ValueError(f"{text}: names no bucket")
        return cls(f"{scheme}://{authority}", key, options)

    def __str__(self) -> str:
        """What `parse` reads; always text: a path of this machine that is none is written as a file URI."""
        if self.is_local:
            return self.path if _is_text(self.path) else Path(self.path).absolute().as_uri()
        uri = f"{self.root}/{self.path}" if self.path else self.root
        if self.options:
            return f"{uri}?{self.options}"
        return uri + _NO_OPTION if _known_options(self.scheme, uri) else uri

    @property
    def is_local(self) -> bool:
        return not self.root

    @property
    def scheme(self) -> str:
        """`s3`, `gs`, …; empty for this machine."""
        return self.root.partition("://")[0]

    @property
    def public(self) -> str:
        """The URI as messages show it."""
        return without_secrets(str(self))

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rstrip("/").rpartition("/")[2]

    @property
    def parent(self) -> Place:
        path, slash, _ = self.path.rstrip("/").rpartition("/")
        return replace(self, path=path or ((slash or ".") if self.is_local else ""))

    def below(self, name: str) -> Place:
        """The place of a relative path; the same for an empty one."""
        base = self.path.rstrip("/")
        return replace(self, path=f"{base}/{name}" if base or self.path.startswith("/") else name) if name else self

    def absolute(self) -> Place:
        """The same, whatever the working folder becomes."""
        return replace(self, path=str(Path(self.path).resolve())) if self.is_local else self


def without_secrets(uri: str) -> str:
    """A URI without the credentials that may stand before its bucket."""
    return re.sub("//[^/@]*@", "//", uri)


def is_uri(text: str) -> bool:
    """Whether a text is `scheme://…`, and no path."""
    return bool(_URI.fullmatch(text))


def _split_options(scheme: str, text: str) -> tuple[str, str]:
    """The text without options at its end, and these; ValueError if one of them is mistyped."""
    if not (known := _known_options(scheme, text)):
        return text, ""
    before, _, after = text.rpartition("?")
    if unknown := [part for part in after.split("&") if part not in known]:
        raise ValueError(f"{unknown[0]!r} is no option of {scheme}://; those are {', '.join(sorted(OPTIONS[scheme]))}")
    return before, after


def _known_options(scheme: str, text: str) -> list[str]:
    _, question, after = text.rpartition("?")
    return [part for part in after.split("&") if question and part.partition("=")[0] in OPTIONS.get(scheme, ())]


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
