"""`python -m zebra_serving`: `launch`, with nobody looking for garbage among what its imports make.

800 modules make little garbage; looking for it took 33 ms of the 525 from start to first prediction. `launch` has it looked for again
as soon as they are there.
"""

import gc
import sys

if __name__ == "__main__":
    gc.disable()
    from zebra_serving.launch import main

    sys.exit(main())
