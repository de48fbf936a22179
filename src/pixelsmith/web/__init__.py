"""What ``view`` and ``studio`` share: one web server, its checks of requests, and tiles of pictures."""
