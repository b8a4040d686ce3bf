# Copies an AMI with the SSM agent baked in.
#   packer build -var source_ami=ami-0123456789abcdef0 ssmbake.pkr.hcl
# Packer 1.10 and later want once: packer plugins install github.com/hashicorp/amazon
variable "source_ami" {
  type = string
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

source "amazon-ebs" "image" {
  region        = "@REGION@"
  source_ami    = var.source_ami
  instance_type = var.instance_type
  ssh_username  = var.ssh_username
  ami_name      = "ssmbake-{{timestamp}}"
}

build {
  sources = ["source.amazon-ebs.image"]

@OVER_SSH@
}
