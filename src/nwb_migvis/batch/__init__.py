"""Many sessions: units of work in a loop, in processes of this machine, or on a cluster; one table of all."""

from nwb_migvis.batch.jobs import Job, job_list
from nwb_migvis.batch.many import Batch, run_batch
from nwb_migvis.engines import ENGINES

__all__ = ["ENGINES", "Batch", "Job", "job_list", "run_batch"]
