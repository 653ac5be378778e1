"""Many sessions: units of work in a loop, in processes of this machine, or on a cluster; one table of all."""

from nwb_migvis.batch.engines import ENGINES
from nwb_migvis.batch.jobs import Job, job_list
from nwb_migvis.batch.many import Batch, run_batch

__all__ = ["ENGINES", "Batch", "Job", "job_list", "run_batch"]
