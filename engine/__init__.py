"""One chat request from messages and media to streamed tokens; knows nothing of HTTP."""
