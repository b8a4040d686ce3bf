# Bakes the SSM agent into a copy of an image's volume, which is mounted in an instance and not booted.
#   packer build -var source_ami=ami-0123456789abcdef0 -var snapshot_id=snap-0123456789abcdef0 ssmbake.pkr.hcl
# Packer 1.10 and later want once: packer plugins install github.com/hashicorp/amazon
variable "source_ami" {
  type        = string
  description = "Of the instance that does the work."
}

variable "snapshot_id" {
  type        = string
  description = "Of the root volume to bake."
}

variable "device" {
  type        = string
  default     = "/dev/nvme1n1p1"
  description = "Its root partition as the instance names it: /dev/xvdf1 on Xen."
}

variable "ssh_username" {
  type        = string
  default     = "ec2-user"
  description = "admin on Debian, ubuntu on Ubuntu."
}

variable "instance_type" {
  type    = string
  default = "t3.small"
}

@OVER_SSH_VARIABLES@

source "amazon-ebssurrogate" "image" {
  region                  = "@REGION@"
  source_ami              = var.source_ami
  instance_type           = var.instance_type
  ssh_username            = var.ssh_username
  ami_name                = "ssmbake-{{timestamp}}"
  ami_virtualization_type = "hvm"
  ena_support             = true

  launch_block_device_mappings {
    device_name           = "/dev/xvdf"
    snapshot_id           = var.snapshot_id
    delete_on_termination = true
  }

  ami_root_device {
    source_device_name    = "/dev/xvdf"
    device_name           = "/dev/xvda"
    delete_on_termination = true
  }
}

build {
  sources = ["source.amazon-ebssurrogate.image"]

  provisioner "shell" {
    remote_folder   = "/var/tmp"
    execute_command = "{{.Vars}} sh -c 'if [ $(id -u) = 0 ]; then sh {{.Path}}; else sudo -E sh {{.Path}}; fi'"
    inline = [
      "set -eu",
      "mkdir -p '${var.root}'",
      # XFS refuses the copy of a file system that is mounted already, unless told.
      "mount -o nouuid '${var.device}' '${var.root}' 2>/dev/null || mount '${var.device}' '${var.root}'",
    ]
  }

@OVER_SSH@

  provisioner "shell" {
    remote_folder   = "/var/tmp"
    execute_command = "{{.Vars}} sh -c 'if [ $(id -u) = 0 ]; then sh {{.Path}}; else sudo -E sh {{.Path}}; fi'"
    inline          = ["umount '${var.root}'"]
  }
}
