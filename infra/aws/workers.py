"""Asks the cluster's autoscaler for a number of GPUs, until another number is asked for.

    ray submit infra/aws/cluster.yaml infra/aws/workers.py 8       # and 0 when the sweep is done

The autoscaler starts spot instances, or on-demand instances where that fails. The driver of a sweep
gives work to nodes that join the cluster, but it does not ask for nodes.
"""

import sys

import ray
from ray.autoscaler.sdk import request_resources

if __name__ == "__main__":
    if len(sys.argv) != 2 or not sys.argv[1].isdigit():
        sys.exit("how many GPUs? Give a number, such as 8; 0 lets all workers go")
    ray.init("auto")
    request_resources(bundles=[{"GPU": 1}] * int(sys.argv[1]))
    print(f"asked for {sys.argv[1]} GPU(s); `ray status` says what has come")
