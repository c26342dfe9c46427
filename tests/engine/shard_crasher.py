"""Processes that work on shards, or put them together, until they are killed."""

from genrail.engine.shard_assembly import assemble
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


def put_together(folder, out, sender):
    """Say each stage of the assembly when it begins, then that the engine is about to be published, and that it is."""
    said = set()

    def progress(stage, done, total):
        if stage not in said:
            said.add(stage)
            sender.send(stage)

    engine = assemble(ShardPlan.load(folder), pseudo_queries=1, epochs=1, progress=progress)
    sender.send("save")
    engine.save(out)
    sender.send("end")
