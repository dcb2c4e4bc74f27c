"""What one peer may ask of us. Everything that a peer can make grow has a bound here."""

from msgspec import Struct


class Limits(Struct, frozen=True, kw_only=True):
    """Of one connection. The defaults leave an ordinary gateway ten times what it needs."""

    message_bytes: int = 8 * 1024 * 1024
    """Of one gRPC message; a larger one is RESOURCE_EXHAUSTED as soon as its length is known."""

    held_bytes: int = 64 * 1024 * 1024
    """Of messages that are not whole or not taken yet, all streams together; then RESOURCE_EXHAUSTED."""

    streams: int = 2048
    """Calls at once (SETTINGS_MAX_CONCURRENT_STREAMS), and handlers at work; then REFUSED_STREAM."""

    header_bytes: int = 64 * 1024
    """Of a call's header fields, 32 bytes for each added (RFC 9113 section 6.5.2); then status 431."""

    block_bytes: int = 64 * 1024
    """Of a compressed header block over all its frames; then ENHANCE_YOUR_CALM."""

    continuations: int = 16
    """CONTINUATION frames of one header block (CVE-2024-27316); then ENHANCE_YOUR_CALM."""

    remembered_blocks: int = 32
    """Header blocks whose meaning is kept."""

    remembered_block_bytes: int = 2048
    """Longer blocks are read anew each time."""

    resets: int = 5000
    """Streams that the peer resets, or makes us reset, in a burst (CVE-2023-44487, CVE-2025-8671)."""

    resets_per_second: int = 1000
    """How fast `resets` grows back."""

    control_frames: int = 2000
    """Frames that carry nothing, in a burst: SETTINGS, PING, PRIORITY, WINDOW_UPDATE, GOAWAY, unknown ones,
    RST_STREAM of nothing, DATA of less than 5 bytes (CVE-2019-9511 to 9518)."""

    control_frames_per_second: int = 200
    """How fast `control_frames` grows back; each call adds four."""

    window_bytes: int = 16 * 1024 * 1024
    """Of the connection: what may be on its way to us."""

    greeting_seconds: float = 10.0
    """For the preface, and for the answer to our SETTINGS."""

    frame_seconds: float = 10.0
    """For a frame, or a header block, that has begun to be whole."""

    message_seconds: float = 10.0
    """For the message of a unary call; then DEADLINE_EXCEEDED."""

    stalled_seconds: float = 20.0
    """For a peer to read what we wrote, or to widen the window that an answer waits for."""

    idle_seconds: float = 3700.0
    """Without a call, before we leave. Longer than gateways keep connections, so that they go first."""

    linger_seconds: float = 1.0
    """For the peer's answer to the announcement that we leave, and then for it to close."""
