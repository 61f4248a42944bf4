"""What the independent client `etcd3` does to a store, told as JSON. Run in an environment of its own.

Usage: peer.py PORT read KEY | hold_lease KEY TTL_SECONDS | create KEY VALUE
"""

import json
import sys

import etcd3


def read(client, key):
    value, metadata = client.get(key)
    revisions = {"create_revision": metadata.create_revision, "mod_revision": metadata.mod_revision}
    return {"value": value.decode(), "lease_id": metadata.lease_id, **revisions}


def hold_lease(client, key, ttl_seconds):
    """Keep a key on a lease until standard input ends."""
    lease = client.lease(int(ttl_seconds))
    client.put(key, "held", lease)
    print(json.dumps({"lease_id": lease.id}), flush=True)
    sys.stdin.read()
    lease.revoke()
    return {}


def create(client, key, value):
    """Win the key, if it is free, in a transaction."""
    transactions = client.transactions
    won, _ = client.transaction(
        compare=[transactions.version(key) == 0], success=[transactions.put(key, value)], failure=[]
    )
    return {"won": won}


if __name__ == "__main__":
    port, action, *arguments = sys.argv[1:]
    actions = {"read": read, "hold_lease": hold_lease, "create": create}
    answer = actions[action](etcd3.client(host="127.0.0.1", port=int(port)), *arguments)
    print(json.dumps(answer), flush=True)
