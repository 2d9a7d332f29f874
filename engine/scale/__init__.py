"""One model over many machines: backend and encoders that forward to Ray Serve replicas, and what the replicas run.

With `server/ray_app.py` the only importer of ray.
"""
