"""Models that are Python run here: each in a worker process of its own, confined, with bounds on memory and time.

predictor.py    what a server holds: asks the worker, restarts it with back-off
process.py      one worker process from outside: start, ask, kill
wire.py         the frames between the two: a msgspec header, arrays as raw bytes
worker.py       the process itself: confines itself first, then imports the model's code
confinement.py  limits of the process; landlock.py and seccomp.py: what the kernel keeps it from
runners.py      what the worker runs: a class of the bundle's own source, a folder of MLflow's, a pickle
"""
