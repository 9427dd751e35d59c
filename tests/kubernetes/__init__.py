"""The Helm chart, what is made of it, and the command that runs in a pod.

The tests run helm and kubeconform where these are: `install.sh` installs them, and a test without its tool
says so. What a kubelet does is done by a test: it starts the commands of the pods as processes.
"""
