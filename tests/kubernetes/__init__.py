"""The Helm chart, what is made of it, and the command that runs in a pod.

The tests run helm, kubeconform, and an API server with etcd where these are: `install.sh` installs them, the
API server only if it is asked to, and a test without its tool says so. What a kubelet does is done by a test:
it starts the commands of the pods as processes.
"""
