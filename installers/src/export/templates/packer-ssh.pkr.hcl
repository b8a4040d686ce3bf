# Bakes the SSM agent into a machine that is there, by SSH.
#   packer build -var host=192.0.2.10 ssmbake.pkr.hcl
variable "host" {
  type = string
}

variable "port" {
  type    = number
  default = 22
}

variable "ssh_username" {
  type    = string
  default = "root"
}

variable "ssh_private_key_file" {
  type    = string
  default = "~/.ssh/id_ed25519"
}

@OVER_SSH_VARIABLES@

source "null" "machine" {
  ssh_host             = var.host
  ssh_port             = var.port
  ssh_username         = var.ssh_username
  ssh_private_key_file = var.ssh_private_key_file
}

build {
  sources = ["source.null.machine"]

@OVER_SSH@
}
