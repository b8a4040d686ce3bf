# Bakes the SSM agent into a copy of an AMI from the outside: on an EC2 instance, no copy is booted.
#   packer build -var source_ami=ami-0123456789abcdef0 ssmbake.pkr.hcl
# Packer 1.10 and later want once: packer plugins install github.com/hashicorp/amazon
variable "source_ami" {
  type = string
}

@PROGRAM@
variable "report" {
  type    = string
  default = "ssmbake-report.json"
}

variable "sbom" {
  type        = string
  default     = "ssmbake-sbom.cdx.json"
  description = "CycloneDX, or SPDX where it ends in .spdx.json."
}

source "amazon-chroot" "image" {
  region     = "@REGION@"
  source_ami = var.source_ami
  ami_name   = "ssmbake-{{timestamp}}"
  mount_path = "/mnt/ssmbake-image"
}

build {
  sources = ["source.amazon-chroot.image"]

  provisioner "shell-local" {
    inline = [
      @GET_HERE@
      "\"$program\" apply --root /mnt/ssmbake-image @FLAGS@ --report '${var.report}' --sbom '${var.sbom}'",
      "\"$program\" audit --root /mnt/ssmbake-image",
    ]
  }
}
