"""ministack ignores the range and the `response-*` parameters of a read with a versionId.

AWS treats it like any other read, and a download by valet key names its version.
"""

from typing import Any

from ministack.services import s3

Answer = tuple[int, dict[str, Any], Any]
Headers = dict[str, str]


def close() -> None:
    """Apply range and `response-*` parameters to reads of a version."""
    read = s3._get_object

    def read_as_asked(bucket: str, key: str, headers: Headers, query: Any = None) -> Answer:
        status, answered, body = read(bucket, key, headers, query)
        query = query or {}
        if status != 200 or not s3._qp(query, "versionId", ""):
            return status, answered, body
        status = 200
        if headers.get("range"):
            found = s3._parse_range(headers["range"], len(body))
            if found is None:
                error = s3._xml_body(s3._range_error_xml(bucket, key))
                return 416, {"Content-Range": f"bytes */{len(body)}"}, error
            start, end = found
            answered["Content-Range"] = f"bytes {start}-{end}/{len(body)}"
            body, status = body[start : end + 1], 206
            # Checksums are those of the whole object.
            answered = {n: v for n, v in answered.items() if "x-amz-checksum-" not in n.lower()}
            answered["Content-Length"] = str(len(body))
        s3._apply_response_overrides(answered, query)
        return status, answered, body

    s3._get_object = read_as_asked
