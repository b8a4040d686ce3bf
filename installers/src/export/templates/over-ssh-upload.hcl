provisioner "file" {
  source      = var.ssmbake
  destination = "/var/tmp/ssmbake"
}

