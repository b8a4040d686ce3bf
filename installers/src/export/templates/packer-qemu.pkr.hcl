# Bakes the SSM agent into a copy of a disk image.
#   packer build -var image=debian-12.qcow2 -var ssh_private_key_file=key ssmbake.pkr.hcl
# Packer 1.10 and later want once: packer plugins install github.com/hashicorp/qemu
variable "image" {
  type        = string
  description = "A bootable disk image, qcow2 or raw."
}

variable "format" {
  type    = string
  default = "qcow2"
}

variable "ssh_username" {
  type    = string
  default = "root"
}

variable "ssh_private_key_file" {
  type = string
}

variable "accelerator" {
  type        = string
  default     = "kvm"
  description = "tcg where there is no KVM."
}

variable "output" {
  type    = string
  default = "output"
}

variable "qemuargs" {
  type        = list(list(string))
  default     = []
  description = "Further arguments of QEMU, such as the kernel of an image without a boot loader."
}

@OVER_SSH_VARIABLES@

source "qemu" "image" {
  iso_url              = var.image
  iso_checksum         = "none"
  disk_image           = true
  format               = var.format
  accelerator          = var.accelerator
  headless             = true
  memory               = 1024
  net_device           = "virtio-net"
  ssh_username         = var.ssh_username
  ssh_private_key_file = var.ssh_private_key_file
  ssh_timeout          = "10m"
  shutdown_command     = "if [ $(id -u) = 0 ]; then systemctl poweroff; else sudo systemctl poweroff; fi"
  output_directory     = var.output
  qemuargs             = var.qemuargs
}

build {
  sources = ["source.qemu.image"]

@OVER_SSH@
}
