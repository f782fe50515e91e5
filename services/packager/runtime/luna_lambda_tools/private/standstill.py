"""A lambda that stands still ends itself and says where: whoever runs it starts it afresh."""

import asyncio
import faulthandler

LOOKS = 10


async def end_when_standing_still(seconds):
    """Ends this process with 1 and the stack of each thread in the log when the event loop has not turned for `seconds`.

    The watch is faulthandler's, a thread without Python: it also ends code that never lets another thread run.
    """
    try:
        while True:
            faulthandler.dump_traceback_later(seconds, exit=True)
            await asyncio.sleep(seconds / LOOKS)
    finally:
        faulthandler.cancel_dump_traceback_later()
