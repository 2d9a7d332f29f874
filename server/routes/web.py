"""`GET /`: the web page, from files beside this package; it works offline and calls nothing but this server."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse

from core.errors import UnknownName

router = APIRouter(tags=["web"], include_in_schema=False)

FOLDER = Path(__file__).parents[1] / "web"
MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
PAGES = {path.relative_to(FOLDER).as_posix(): path for path in sorted(FOLDER.rglob("*")) if path.suffix in MEDIA_TYPES}
"""Every file that may be asked for, by the name that asks for it: no path of a request ever reaches the disk."""

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


@router.get("/", response_class=FileResponse)
async def page() -> FileResponse:
    """Return the page."""
    return _file("index.html")


@router.get("/web/{name:path}", response_class=FileResponse)
async def page_file(name: str) -> FileResponse:
    """Return a script, a style sheet or the icon. Raises `UnknownName` for anything else."""
    if name not in PAGES:
        raise UnknownName(f"the page has no file {name[:80]!r}; it starts at /")
    return _file(name)


def _file(name: str) -> FileResponse:
    path = PAGES[name]
    headers = {
        "Content-Security-Policy": CONTENT_SECURITY_POLICY,
        "Cache-Control": "no-cache",  # asked again each time, answered by 304 while the file is the same
        "Permissions-Policy": "microphone=(self), camera=(self)",
    }
    return FileResponse(path, media_type=MEDIA_TYPES[path.suffix], headers=headers)
