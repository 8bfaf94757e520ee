import time, traceback, threading, faulthandler, sys
from tests.engine.test_storage_faults import *
def test_x(faulty, proxy, s3_uri):
    once = iter([True])
    def replace(request):
        if request.method == "GET" and next(once, False):
            t=time.time()
            faulthandler.dump_traceback_later(4, file=sys.__stderr__)
            try: Storage(s3_uri).write_bytes("x", b"short"); print("ok", time.time()-t)
            except BaseException as e: traceback.print_exc()
        return Fault.NONE
    proxy.fault = replace
    r = faulty.read_bytes("x")
    print(len(r))
    assert 0
