"""The lambda's log: `logger.info("...")` writes one line to stderr.

A line is `2026-01-01T00:00:00.000Z INFO message`; inside a request ` request_id=<id>` follows the message.
LAMBDA_LOG_LEVEL sets the least level that is written: DEBUG, INFO (the default), WARNING or ERROR.
"""

import logging

logger = logging.getLogger("lambda")
