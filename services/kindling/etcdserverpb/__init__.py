"""Generated from protos/etcdserverpb: the part of etcd's v3 API that Kindling speaks."""
