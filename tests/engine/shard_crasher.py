"""A process that works on shards until it is killed."""

from genrail.engine.shard_plan import ShardPlan
from genrail.engine.sharding import run_shard


def work(folder, sender):
    """Say when it begins, and then after each shard, over and over."""
    plan = ShardPlan.load(folder)
    identifiers, encoder = plan.identifiers(), plan.load_encoder()
    sender.send("ready")
    for shard in plan.shards:
        run_shard(plan, shard, encoder, identifiers)
        sender.send(shard.name)
    sender.send("end")
